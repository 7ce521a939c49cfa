"""Puts the configuration of both programs into the schema of the chart's values: what they themselves say that they read, without
what the chart sets. Arguments: the schema of the chart, that of signet-ca, that of signet-agent."""

import json
import sys

chart_file, ca_file, agent_file = sys.argv[1:]


def read(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def without(schema, *keys):
    """The schema of a section without some of its keys, and without the rules that are about them."""
    for key in keys:
        del schema["properties"][key]
    if "required" in schema:
        schema["required"] = [key for key in schema["required"] if key not in keys]
    rules = schema.pop("allOf", [])
    if rules := [rule for rule in rules if not any(f'"{key}"' in json.dumps(rule) for key in keys)]:
        schema["allOf"] = rules
    schema.pop("$schema", None)
    schema.pop("title", None)
    return schema


chart, ca, agent = map(read, (chart_file, ca_file, agent_file))
without(ca, "listen", "ops", "admin", "storage", "postgres", "keys", "bundle_file")
authority = without(ca["properties"]["authority"], "backend", "files")
former = without(authority["properties"]["former"], "backend")
for section in (authority, former):
    without(section["properties"]["vault"], "address", "ca_file", "auth")
without(agent, "trust_domain", "ca", "token_file", "ops")
without(agent["properties"]["sds"], "socket")
chart["$defs"]["ca"], chart["$defs"]["agent"] = ca, agent
with open(chart_file, "w", encoding="utf-8") as file:
    json.dump(chart, file, indent=2, sort_keys=True, ensure_ascii=False)
    file.write("\n")
