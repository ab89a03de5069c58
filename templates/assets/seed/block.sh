# Puts lines into Posada's own block at the end of a file. $1: the file; the rest: lines, none takes the block away
file=$1
shift
[ -e "$file" ] || : >"$file"
{
    awk '$0 == "# posada: begin" { inside = 1 }
        !inside
        $0 == "# posada: end" { inside = 0 }' "$file" &&
        { [ $# -eq 0 ] || printf '%s\n' '# posada: begin' "$@" '# posada: end'; }
} >"$file.posada" || exit
if cmp -s "$file.posada" "$file"; then
    rm -f "$file.posada"
else
    chmod 644 "$file.posada" && mv -f "$file.posada" "$file"
fi
