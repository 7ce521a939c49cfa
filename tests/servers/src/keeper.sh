# Keeps one PostgreSQL server in a directory of its own. It does what each line of its input says and answers with one line.
# When the input ends, which happens with the process that holds the other end of the pipe whatever ends that, the server
# is shut down at once and the directory removed.
# Arguments: the directory of the programs, the directory for ours, the user to be (empty: as we are).
set -u
programs=$1 below=$2 user=$3
dir=$(mktemp -d "$below/signet-postgres-XXXXXX") || exit 1
server=

# The server also ends when this shell is killed. What a shell starts in the background ignores INT and QUIT, which would be
# lost until the server has handlers of its own.
set -- env --default-signal=INT,QUIT setpriv --pdeathsig QUIT
if [ -n "$user" ]; then
  chown "$user" "$dir"
  set -- "$@" --reuid "$user" --regid "$(id -g "$user")" --clear-groups
fi

end() { # SIGNAL
  [ -z "$server" ] && return
  # A server that was stopped in its tracks could not hear the signal.
  kill -"$1" "$server" && kill -CONT "$server"
  wait "$server"
  server=
}

cd "$dir" || exit 1
echo "directory $dir"
while read -r word rest; do
  case $word in
  init)
    if "$@" "$programs/initdb" --pgdata=data --username=signet --auth=trust --encoding=UTF8 --locale=C --no-sync \
      </dev/null >log 2>&1; then echo done; else echo failed; fi
    ;;
  copy) # the directory of the socket of the server to follow, its port
    if "$@" "$programs/pg_basebackup" --pgdata=data --host="${rest% *}" --port="${rest##* }" --username=signet --no-sync \
      --checkpoint=fast --wal-method=stream --write-recovery-conf </dev/null >log 2>&1; then echo done; else echo failed; fi
    ;;
  start)
    end QUIT
    "$@" "$programs/postgres" -D data </dev/null >>log 2>&1 &
    server=$!
    echo "server $server"
    ;;
  fast) end INT; echo done ;;
  immediate) end QUIT; echo done ;;
  esac
done
end QUIT
cd / && rm -rf "$dir"
