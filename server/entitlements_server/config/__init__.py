"""What operators configure: settings, callers and the catalogue, each a model that says what is wrong with it.

| module | what it is for |
|---|---|
| `settings.py` | every setting, with its default and its bounds |
| `sources.py` | flag over environment over file over default, and what was read from where |
| `callers.py` | the `[[callers]]` of the configuration file |
| `catalogue.py` | the catalogue as a file, replaced while serving |
| `tables.py` | TOML files and their tables: sentences with a place, and never with a value |
| `errors.py` | the base of all errors that stop a program of the command line |

It imports the ledger and nothing else of the server. What is built from the settings gets its own part of them in
`entitlements_server.app`.
"""
