"""Commands that are forked from a server end as they would anywhere."""

from phalanx.cli.forks import run_command


def test_a_forked_command_has_the_exit_code_of_any_other(tmp_path, capfd):
    assert run_command(["list", "reducers"]) == 0
    assert run_command(["certify", str(tmp_path / "nothing")]) == 3
    assert run_command(["list", "reducers", "--nonsense"]) == 2
    told = capfd.readouterr()
    assert told.out == ""  # answers are dropped, messages are not
