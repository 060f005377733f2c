from phalanx.cli.console import answer_table


def test_nothing_of_a_wide_table_is_cut_off_in_a_pipe(capsys):
    columns = [f"column {number}" for number in range(20)]
    answer_table("wide", columns, [["value"] * 20])
    said = capsys.readouterr().out
    assert all(column in said for column in columns)
    assert said.count("value") == 20
