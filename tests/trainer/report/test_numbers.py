from trainer.report.content import Chart, Line, Point, Source, Stat
from trainer.report.numbers import numbers_of

SOURCE = Source("photos", "one run")


def test_of_a_long_curve_some_points_are_listed_and_the_last():
    line = Line("loss", "simclr", tuple(Point(x, Stat.of([x / 8])) for x in range(1, 31)))
    numbers = numbers_of(Chart("chart", "T", "x", "y", (line,), SOURCE, "C."))
    listed = [row[0].text for row in numbers.rows]
    assert listed == ["1", "4", "7", "10", "13", "16", "19", "22", "25", "28", "30"]
    assert numbers.rows[-1][1].text == "3.75"
    assert numbers.caption == "y; one point in 3."
