"""The commands about the Prefect server of a root: serve its deployments, install automations."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from flows.commands.common import HERE, Common, app, automations_app


@app.command
def up(
    *,
    port: int = 4200,
    mlflow: Annotated[bool, Parameter(negative="")] = False,
    common: Common = HERE,
) -> int:
    """Start the Prefect server of the root and serve every deployment, until Ctrl-C. Runs are started in its UI.

    Args:
        port: Where the server listens, on 127.0.0.1. A server that a training of this root has started is used as is.
        mlflow: Serve the MLflow UI of the root as well.
    """
    from flows.serving.up import up as serve

    return serve(common.root, port=port, mlflow=mlflow)


@automations_app.command(name="install")
def install_automations(*, common: Common = HERE) -> int:
    """Put ours on the server, or bring them up to date; azr up does so by itself."""
    from flows.serving.manage import install_all

    return install_all(common.root)


@automations_app.command(name="remove")
def remove_automations(*, common: Common = HERE) -> int:
    """Take ours from the server; others stay."""
    from flows.serving.manage import remove_all

    return remove_all(common.root)


@automations_app.command(name="list")
def list_automations(*, common: Common = HERE) -> int:
    """List ours on the server."""
    from flows.serving.manage import list_all

    return list_all(common.root)
