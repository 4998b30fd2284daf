"""``python -m dockreg_tx`` is the ``dockreg`` command."""

from dockreg_tx.cli.main import run

if __name__ == "__main__":
    run()
