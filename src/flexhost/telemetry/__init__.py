"""What the host tells of itself: events, log lines, metrics, spans, health."""
