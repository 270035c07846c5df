"""The agent's dead letters: kept in their region, sealed, bounded, until their cause is fixed or they are discarded."""
