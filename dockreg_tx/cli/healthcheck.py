"""``dockreg healthcheck``: one request to the server of this machine, for container images without curl."""

from __future__ import annotations

import click

from dockreg_tx.cli.endpoint import CertificateWanted, NotReached, ask, reachable_address
from dockreg_tx.cli.frame import AdminCommand, Refused, pass_operator
from dockreg_tx.cli.operator import Operator


@click.command("healthcheck", cls=AdminCommand)
@click.option("--ready", is_flag=True, help="Ask whether database and storage can be used, too.")
@click.option(
    "--listen", metavar="ENDPOINT", help="As the server was told, where the settings do not say it."
)
@click.option(
    "--timeout", type=click.FloatRange(0.1, 300), default=5.0, show_default=True, help="In seconds."
)
@click.option("--certificate", metavar="FILE", help="PEM certificate to show where tls.client_ca is set.")
@click.option("--key", metavar="FILE", help="Its key, where that is not in the same file.")
@pass_operator
def healthcheck(
    operator: Operator,
    ready: bool,
    listen: str | None,
    timeout: float,
    certificate: str | None,
    key: str | None,
) -> None:
    """Exit with 0 if the server on this machine is alive, with 1 and the reason if not.

    A server that asks for a client's certificate is alive. Whether it is ready it tells those who show one.
    """
    settings = operator.settings()
    identity = (certificate, key or certificate) if certificate else None
    for text in [listen] if listen else settings.server.listen:
        address = reachable_address(text, settings)
        if address is None:
            continue
        try:
            path = "/readyz" if ready else "/healthz"
            ask(address, path, timeout_seconds=timeout, identity=identity)
        except CertificateWanted as error:
            if ready or identity or not settings.tls.client_ca:
                raise Refused(f"{error} by an authority of tls.client_ca: --certificate, --key") from error
        except NotReached as error:
            raise Refused(str(error)) from error
        click.echo(f"{address} is {'ready' if ready else 'alive'}")
        return
    raise Refused("no listener says where it is: give --listen tcp:PORT or --listen unix:PATH")
