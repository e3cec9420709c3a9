# CPython's own tests of one module ($1): the result of every single test is the output.
module=$1
shift
for pattern in "$@"; do set -- "$@" -i "$pattern"; shift; done
/usr/bin/python3 -m test -j1 "$@" --junit-xml result.xml "$module" >log 2>&1 && status=0 || status=$?
echo "status $status"
# Not compared, but shown when something else differs.
[ "$status" -eq 0 ] || tail -n 100 log >&2
/usr/bin/python3 -I - <<'CODE'
import xml.etree.ElementTree as tree
for case in sorted(tree.parse("result.xml").iter("testcase"), key=lambda c: c.get("name")):
    # A child says how it failed or was skipped; its text has times and addresses, its tag has not.
    outcome = [child.tag for child in case if child.tag not in ("system-out", "system-err")]
    print(case.get("name"), case.get("status"), case.get("result"), *outcome)
CODE
