"""Changed keys from a topic that somebody else feeds: messages of a NATS JetStream stream.

The one package that knows ``nats``. ``envelope`` and ``keys`` read messages and do no I/O, ``stream`` talks to the
server, ``changes`` is the change source over both.
"""
