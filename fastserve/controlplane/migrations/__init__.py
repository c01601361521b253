"""The schema of the control plane's database, step by step; `schema` runs them."""
