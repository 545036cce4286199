from benchmarks.figures import Figure, Measure, Notebook

CPU = Measure("handshakes", "server CPU per handshake", "µs")
MEMORY = Measure("memory", "memory per pending connection", "bytes")
RATE = Measure("handshakes", "handshakes a second", "1/s")


def test_a_figure_is_the_median_of_its_samples_with_their_spread():
    figure = Figure(CPU, "c", (12.0, 10.0, 50.0))

    assert figure.median == 12.0
    assert figure.spread == (10.0, 50.0)


def test_samples_of_one_contender_become_one_figure():
    notebook = Notebook()
    notebook.add("c", {CPU: 10.0})
    notebook.add("uvloop", {CPU: 15.0})
    notebook.add("c", {CPU: 11.0})

    assert notebook.figures(CPU) == {
        "c": Figure(CPU, "c", (10.0, 11.0)),
        "uvloop": Figure(CPU, "uvloop", (15.0,)),
    }
    assert notebook.figures(MEMORY) == {}


def test_measures_of_one_section_stand_together():
    notebook = Notebook()
    notebook.add("c", {CPU: 1.0})
    notebook.add("c", {MEMORY: 1.0})
    notebook.add("c", {RATE: 1.0})

    assert notebook.measures == [CPU, RATE, MEMORY]


def test_the_same_thing_is_noted_once():
    notebook = Notebook()
    notebook.note("handshakes", "go", "go is not in the PATH")
    notebook.note("handshakes", "go", "go is not in the PATH")
    notebook.note("handshakes", "c", "gcc is not in the PATH")
    notebook.note("memory", "go", "go is not in the PATH")

    assert notebook.notes == [
        "handshakes, memory: go: go is not in the PATH",
        "handshakes: c: gcc is not in the PATH",
    ]
