#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
import json
import sys

task = json.load(sys.stdin)
name = task["input"]["name"]
json.dump({"greeting": f"Hello, {name}.", "summary": f"greeted {name}"}, sys.stdout)
