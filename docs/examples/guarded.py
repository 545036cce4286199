from sockproto import AdmissionControl, Networks, Policy, ServerFactory
from sockproto.handshakes.passphrase import Passphrase

policy = Policy(
    deny=Networks.parse("203.0.113.0/24"),
    max_connections=2000,
    max_pending_per_source=4,
)
factory = ServerFactory(Passphrase(b"sesame"), admission=AdmissionControl(policy))
