"""How often the monitor's drift verdicts are wrong when nothing changed, and how often right when something did."""
