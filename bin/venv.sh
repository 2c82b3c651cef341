# Sourced by bin/up, bin/test and bin/manage: `venv requirements.txt` makes .venv, or mends it, so that
# it holds what that file asks for, and sets $python. Nothing to do costs one start of cksum.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
python=$root/.venv/bin/python

refuse() {
  printf '%s\n' "$*" >&2
  exit 1
}

venv() { # requirements file
  local stamp_file=$root/.venv/.installed-$1 stamp base
  stamp=$(cat "$root/requirements.txt" "$root/$1" | cksum)
  if [ -x "$python" ] && [ -f "$stamp_file" ] && [ "$(cat "$stamp_file")" = "$stamp" ]; then
    return
  fi
  base=$(find_python) || exit 1
  "$base" "$root/bin/venv.py" "$root" "$1" "$stamp_file" "$stamp" || exit 1
}

find_python() {
  local candidate found
  set -- python3 python3.14 python3.13 python3.12 python3.11
  [ -z "${PYTHON:-}" ] || set -- "$PYTHON"
  for candidate; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      printf '%s\n' "$candidate"
      return
    fi
  done
  found=$("$1" --version 2>/dev/null) || found="not there"
  refuse "Rota needs Python 3.11 or newer, and $1 is $found: install one, or name one that is there:" \
    "PYTHON=/path/to/python3.12 $0"
}
