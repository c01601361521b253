"""Variable dimensions that a model calls by one name: who has to have one size."""

from collections.abc import Sequence

from fastserve.errors import InvalidRequest
from fastserve.runtime.signature import Node
from fastserve.types import Array


class SharedSizes:
    """Where the name of a variable dimension stands more than once among the inputs.

    ONNX says that a name is one size in the whole graph. onnxruntime does not look, and many a model runs
    with several, since exporters name dimensions at will: so this is asked when a run has failed.
    """

    def __init__(self, inputs: Sequence[Node]) -> None:
        self._inputs = [node.name for node in inputs]
        places: dict[str, list[tuple[int, int]]] = {}
        for i, node in enumerate(inputs):
            for axis, dim in enumerate(node.shape):
                # A name is an identifier; converters write "?" or "None" for a dimension that has none.
                if isinstance(dim, str) and dim.isidentifier() and dim != "None":
                    places.setdefault(dim, []).append((i, axis))
        self.places = {name: found for name, found in places.items() if len(found) > 1}
        """Name → (input, axis) of all that have it."""

    def refusal(self, arrays: Sequence[Array], reason: str) -> InvalidRequest | None:
        """Give what is wrong with inputs on which a run has failed for this `reason`; None if it is not that.

        Parameters
        ----------
        arrays
            One per input, in signature order.
        reason
            What onnxruntime says.
        """
        for name, ((first, first_axis), *others) in self.places.items():
            size = arrays[first].shape[first_axis]
            for i, axis in others:
                if arrays[i].shape[axis] != size:
                    field = f"input '{self._inputs[i]}'"
                    return InvalidRequest(
                        f"{field} has {arrays[i].shape[axis]} in dimension {axis} "
                        f"where input '{self._inputs[first]}' has {size} in dimension {first_axis}: "
                        f"the model calls both '{name}', and failed: {reason}",
                        field,
                    )
        return None
