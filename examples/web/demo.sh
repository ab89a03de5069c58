#!/bin/bash
# Brings up this example and shows its page. `make demo` calls it; POSADA names the binary.
set -euo pipefail
cd "$(dirname -- "${BASH_SOURCE[0]}")"
posada=${POSADA:-posada}

if ! "$posada" box list --json | grep -q '"debian/12"'; then
    "$posada" box build debian/12
fi
"$posada" up

# The port may be another than the Vmfile's 8080: auto_correct.
port=$("$posada" port web 80)
echo
echo "--- http://127.0.0.1:$port/"
curl --fail --silent --show-error --max-time 10 "http://127.0.0.1:$port/"
echo "---"
echo
"$posada" status
