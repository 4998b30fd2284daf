"""Shows ``dockreg`` to twistd; imports nothing of the package, so that listing plugins stays fast."""

from twisted.application.service import ServiceMaker

dockreg = ServiceMaker(
    "dockreg",
    "dockreg_tx.tap",
    "A container registry: docker, podman, skopeo and curl push to it and pull from it.",
    "dockreg",
)
