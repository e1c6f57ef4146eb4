# SPDX-License-Identifier: Apache-2.0
"""Fetches the URL with urllib and with requests; trusts CA.pem.  usage: fetch.py urllib|requests URL CA.pem"""

import ssl
import sys
import urllib.request

how, url, ca = sys.argv[1:]
if how == "urllib":
    with urllib.request.urlopen(url, context=ssl.create_default_context(cafile=ca), timeout=10) as r:
        print(r.status, r.read().decode(), end="")
else:
    import requests
    r = requests.get(url, verify=ca, timeout=10)
    print(r.status_code, r.text, end="")
