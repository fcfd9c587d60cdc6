"""`make dashboards`: dashboards/grafana/*.json and docs/metrics.md, made from the metric table."""

from __future__ import annotations

from pathlib import Path

from dashboards import cost, drift, limits, overview, providers, reference, reliability

ROOT = Path(__file__).parent.parent
GRAFANA = ROOT / "dashboards" / "grafana"


def made() -> dict[Path, str]:
    """Every file that is generated, with its text."""
    boards = [module.board() for module in (overview, cost, reliability, limits, providers, drift)]
    files = {GRAFANA / f"{board.name}.json": board.text() for board in boards}
    return {**files, ROOT / "docs" / "metrics.md": reference.text(files)}


def main() -> None:
    """Writes them, and removes dashboards that are not made any more."""
    files = made()
    for old in set(GRAFANA.glob("*.json")) - set(files):
        old.unlink()
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    main()
