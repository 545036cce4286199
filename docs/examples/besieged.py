from sockproto.testing.attack import Plan, run

plan = Plan.read(
    "hold",
    "127.0.0.1:8471",
    sources="127.1.0.0/16",
    connections=100,
    duration=0.5,
    quiet=0.5,
    after=0.0,
)
report = run(plan, command="twistd -n --pidfile= sockserver --listen tcp:8471:interface=127.0.0.1")
assert report.attack.first_try is not None
print(f"{report.attack.first_try:.0%} were served at the first try")
