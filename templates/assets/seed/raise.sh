# Raises in here what the host has changed in synced folders: sets a time by which the host's end of a folder knows that
# nothing is to be set, so that this kernel tells all who watch the file. $1: the port that is read; $2: the time;
# $3: where the ways to the folders are (folder.sh)
# A line of the port is a folder's tag and paths in it, in which all but plain characters are octal as in printf's `%b`.
export LC_ALL=C
set -f
port=$1 time=$2 ways=$3
while read -r tag paths; do
    set --
    for path in $paths; do
        case $path in *\\*)
            # The dot keeps line feeds at the end.
            path=$(printf '%b.' "$path")
            path=${path%.}
            ;;
        esac
        set -- "$@" "$ways/$tag/$path"
    done
    # What is gone again is passed over.
    touch -h -c -m -d "@$time" -- "$@"
done <"$port"
