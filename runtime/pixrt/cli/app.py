"""The application with all its commands, for whoever looks at them: documents, completion, tests."""

from pixrt.cli.commands import application

app = application()
