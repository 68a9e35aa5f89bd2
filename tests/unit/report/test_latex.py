import re

from report_rows import whole_state

from chembench.report.latex import escaped
from chembench.report.render import boards_from_state, boards_text


def test_every_special_character_is_escaped():
    assert escaped("a_b & 5 % {x} $1 #2 ~ ^ \\ < >") == (
        r"a\_b \& 5 \% \{x\} \$1 \#2 \textasciitilde{} \textasciicircum{} \textbackslash{} \textless{} \textgreater{}"
    )
    assert escaped("0.7 ± 0.1\n†") == r"0.7 $\pm$ 0.1 \dag{}"
    assert escaped("replayed‖") == r"replayed$\Vert$"


def test_each_task_is_one_table_with_as_many_cells_as_columns():
    text = boards_text(boards_from_state(whole_state()).boards, "latex")
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 5, (
        "three tasks, an order over two, pre-training"
    )
    assert text.count("booktabs") == 1
    for table in text.split(r"\begin{tabular}")[1:]:
        columns = len(re.match(r"\{([lr]+)\}", table)[1])
        rows = [line for line in table.split(r"\end{tabular}")[0].splitlines() if line.endswith(r"\\")]
        assert rows and {line.count(" & ") + 1 for line in rows} == {columns}
    assert r"forest\_ecfp4*" in text and r"\textbf" not in text
