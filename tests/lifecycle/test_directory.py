"""What is said of the files of a version, whoever works in its directory meanwhile."""

from pathlib import Path

from fastserve.lifecycle.directory import size_bytes, stamp


def test_files_are_described_by_name_and_what_is_no_file_is_passed_over(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"1234567")
    version = tmp_path / "1"
    version.mkdir()
    for name in "hbgacfed":
        (version / name).write_bytes(b"123")
    (version / "link").symlink_to(outside)
    (version / "nowhere").symlink_to(tmp_path / "gone")
    (version / "directory").mkdir()
    described = stamp(version)
    assert [(name, size) for name, size, *_ in described] == [*((n, 3) for n in "abcdefgh"), ("link", 7)]
    assert size_bytes(version) == 8 * 3 + 7
    assert len(stamp(version, 2)) == 2
    (version / "a").write_bytes(b"4321")
    assert stamp(version) != described


def test_of_a_directory_that_is_gone_nothing_is_said(tmp_path: Path) -> None:
    assert stamp(tmp_path / "gone") == ()
    assert size_bytes(tmp_path / "gone") == 0
