# Completion of tf for bash. Made by `tf generate`.

# Sets what is to be known of a scope: a command or verb, with the path that leads to it.
_tf_enter() {
    scope=$1
    case $scope in
        _tf)
            verbs='run cache describe last-image ps stop resources account locations location node service'
            implied='_tf_run'
            own='^(--verbose|--quiet|--location|--location-ip|--linger|--help|--version|-[vqhV]*[vqhV])$'
            valued='^(--location|--location-ip|--linger|--offset|--publish|--domain|--path|--env|--file|--entrypoint|--user|--workdir|--memory|--cpus|--pids|--json|-[vqhVzit]*[pefuw])$'
            options='-v --verbose -q --quiet --location --location-ip --linger -h --help -V --version --offset -p --publish --public --browser --domain --path -e --env -f --file -z --sleep --entrypoint -u --user -w --workdir --memory --cpus --pids -i --interactive -t --tty --timing --json'
            files='^(--file|--json|-[vqhVzit]*[f])$'
            directories=''
            variables='^(--env|-[vqhVzit]*[e])$'
            hosts='^(--location-ip|--domain)$'
            operand='image'
            passes_on=''
            ;;
        _tf_run)
            verbs=''
            implied=''
            own='^(--offset|--publish|--public|--browser|--domain|--path|--env|--file|--sleep|--entrypoint|--user|--workdir|--memory|--cpus|--pids|--interactive|--tty|--timing|--json|--verbose|--quiet|--location|--location-ip|--linger|--help|-[zitvqh]*[pefzuwitvqh])$'
            valued='^(--offset|--publish|--domain|--path|--env|--file|--entrypoint|--user|--workdir|--memory|--cpus|--pids|--json|--location|--location-ip|--linger|-[zitvqh]*[pefuw])$'
            options='--offset -p --publish --public --browser --domain --path -e --env -f --file -z --sleep --entrypoint -u --user -w --workdir --memory --cpus --pids -i --interactive -t --tty --timing --json -v --verbose -q --quiet --location --location-ip --linger -h --help'
            files='^(--file|--json|-[zitvqh]*[f])$'
            directories=''
            variables='^(--env|-[zitvqh]*[e])$'
            hosts='^(--domain|--location-ip)$'
            operand='image'
            passes_on='yes'
            ;;
        _tf_cache)
            verbs='add ls rm'
            implied='_tf_cache_add'
            own='^(--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            valued='^(--location|--location-ip|--linger)$'
            options='-v --verbose -q --quiet --location --location-ip --linger -h --help'
            files=''
            directories=''
            variables=''
            hosts='^(--location-ip)$'
            operand='image'
            passes_on=''
            ;;
        _tf_cache_add)
            verbs=''
            implied=''
            own='^(--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            valued='^(--location|--location-ip|--linger)$'
            options='-v --verbose -q --quiet --location --location-ip --linger -h --help'
            files=''
            directories=''
            variables=''
            hosts='^(--location-ip)$'
            operand='image'
            passes_on=''
            ;;
        _tf_cache_ls)
            verbs=''
            implied=''
            own='^(--json|--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            valued='^(--location|--location-ip|--linger)$'
            options='--json -v --verbose -q --quiet --location --location-ip --linger -h --help'
            files=''
            directories=''
            variables=''
            hosts='^(--location-ip)$'
            operand=''
            passes_on=''
            ;;
        _tf_cache_rm)
            verbs=''
            implied=''
            own='^(--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            valued='^(--location|--location-ip|--linger)$'
            options='-v --verbose -q --quiet --location --location-ip --linger -h --help'
            files=''
            directories=''
            variables=''
            hosts='^(--location-ip)$'
            operand='image'
            passes_on=''
            ;;
        _tf_describe)
            verbs=''
            implied=''
            own='^(--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            valued='^(--location|--location-ip|--linger)$'
            options='-v --verbose -q --quiet --location --location-ip --linger -h --help'
            files=''
            directories=''
            variables=''
            hosts='^(--location-ip)$'
            operand='image'
            passes_on=''
            ;;
        _tf_last_image)
            verbs=''
            implied=''
            own='^(--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            valued='^(--location|--location-ip|--linger)$'
            options='-v --verbose -q --quiet --location --location-ip --linger -h --help'
            files=''
            directories=''
            variables=''
            hosts='^(--location-ip)$'
            operand=''
            passes_on=''
            ;;
        _tf_ps)
            verbs=''
            implied=''
            own='^(--json|--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            valued='^(--location|--location-ip|--linger)$'
            options='--json -v --verbose -q --quiet --location --location-ip --linger -h --help'
            files=''
            directories=''
            variables=''
            hosts='^(--location-ip)$'
            operand=''
            passes_on=''
            ;;
        _tf_stop)
            verbs=''
            implied=''
            own='^(--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            valued='^(--location|--location-ip|--linger)$'
            options='-v --verbose -q --quiet --location --location-ip --linger -h --help'
            files=''
            directories=''
            variables=''
            hosts='^(--location-ip)$'
            operand=''
            passes_on=''
            ;;
        _tf_resources)
            verbs=''
            implied=''
            own='^(--json|--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            valued='^(--location|--location-ip|--linger)$'
            options='--json -v --verbose -q --quiet --location --location-ip --linger -h --help'
            files=''
            directories=''
            variables=''
            hosts='^(--location-ip)$'
            operand=''
            passes_on=''
            ;;
        _tf_account)
            verbs='join backup'
            implied=''
            own='^(--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            valued='^(--location|--location-ip|--linger)$'
            options='-v --verbose -q --quiet --location --location-ip --linger -h --help'
            files=''
            directories=''
            variables=''
            hosts='^(--location-ip)$'
            operand=''
            passes_on=''
            ;;
        _tf_account_join)
            verbs=''
            implied=''
            own='^(--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            valued='^(--location|--location-ip|--linger)$'
            options='-v --verbose -q --quiet --location --location-ip --linger -h --help'
            files=''
            directories=''
            variables=''
            hosts='^(--location-ip)$'
            operand=''
            passes_on=''
            ;;
        _tf_account_backup)
            verbs=''
            implied=''
            own='^(--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            valued='^(--location|--location-ip|--linger)$'
            options='-v --verbose -q --quiet --location --location-ip --linger -h --help'
            files=''
            directories=''
            variables=''
            hosts='^(--location-ip)$'
            operand=''
            passes_on=''
            ;;
        _tf_locations)
            verbs='ls select'
            implied=''
            own='^(--json|--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            valued='^(--location|--location-ip|--linger)$'
            options='--json -v --verbose -q --quiet --location --location-ip --linger -h --help'
            files=''
            directories=''
            variables=''
            hosts='^(--location-ip)$'
            operand=''
            passes_on=''
            ;;
        _tf_locations_ls)
            verbs=''
            implied=''
            own='^(--json|--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            valued='^(--location|--location-ip|--linger)$'
            options='--json -v --verbose -q --quiet --location --location-ip --linger -h --help'
            files=''
            directories=''
            variables=''
            hosts='^(--location-ip)$'
            operand=''
            passes_on=''
            ;;
        _tf_locations_select)
            verbs=''
            implied=''
            own='^(--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            valued='^(--location|--location-ip|--linger)$'
            options='-v --verbose -q --quiet --location --location-ip --linger -h --help'
            files=''
            directories=''
            variables=''
            hosts='^(--location-ip)$'
            operand=''
            passes_on=''
            ;;
        _tf_location)
            verbs='serve invite users nodes sessions limits revoke'
            implied=''
            own='^(--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            valued='^(--location|--location-ip|--linger)$'
            options='-v --verbose -q --quiet --location --location-ip --linger -h --help'
            files=''
            directories=''
            variables=''
            hosts='^(--location-ip)$'
            operand=''
            passes_on=''
            ;;
        _tf_location_serve)
            verbs=''
            implied=''
            own='^(--listen|--name|--no-node|--max-linger|--max-cache|--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            valued='^(--listen|--name|--max-linger|--max-cache|--location|--location-ip|--linger)$'
            options='--listen --name --no-node --max-linger --max-cache -v --verbose -q --quiet --location --location-ip --linger -h --help'
            files=''
            directories=''
            variables=''
            hosts='^(--location-ip)$'
            operand=''
            passes_on=''
            ;;
        _tf_location_invite)
            verbs=''
            implied=''
            own='^(--node|--expires|--address|--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            valued='^(--expires|--address|--location|--location-ip|--linger)$'
            options='--node --expires --address -v --verbose -q --quiet --location --location-ip --linger -h --help'
            files=''
            directories=''
            variables=''
            hosts='^(--address|--location-ip)$'
            operand=''
            passes_on=''
            ;;
        _tf_location_users)
            verbs=''
            implied=''
            own='^(--json|--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            valued='^(--location|--location-ip|--linger)$'
            options='--json -v --verbose -q --quiet --location --location-ip --linger -h --help'
            files=''
            directories=''
            variables=''
            hosts='^(--location-ip)$'
            operand=''
            passes_on=''
            ;;
        _tf_location_nodes)
            verbs=''
            implied=''
            own='^(--json|--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            valued='^(--location|--location-ip|--linger)$'
            options='--json -v --verbose -q --quiet --location --location-ip --linger -h --help'
            files=''
            directories=''
            variables=''
            hosts='^(--location-ip)$'
            operand=''
            passes_on=''
            ;;
        _tf_location_sessions)
            verbs=''
            implied=''
            own='^(--json|--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            valued='^(--location|--location-ip|--linger)$'
            options='--json -v --verbose -q --quiet --location --location-ip --linger -h --help'
            files=''
            directories=''
            variables=''
            hosts='^(--location-ip)$'
            operand=''
            passes_on=''
            ;;
        _tf_location_limits)
            verbs=''
            implied=''
            own='^(--containers|--memory|--stored|--sessions|--json|--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            valued='^(--containers|--memory|--stored|--sessions|--location|--location-ip|--linger)$'
            options='--containers --memory --stored --sessions --json -v --verbose -q --quiet --location --location-ip --linger -h --help'
            files=''
            directories=''
            variables=''
            hosts='^(--location-ip)$'
            operand=''
            passes_on=''
            ;;
        _tf_location_revoke)
            verbs=''
            implied=''
            own='^(--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            valued='^(--location|--location-ip|--linger)$'
            options='-v --verbose -q --quiet --location --location-ip --linger -h --help'
            files=''
            directories=''
            variables=''
            hosts='^(--location-ip)$'
            operand=''
            passes_on=''
            ;;
        _tf_node)
            verbs='serve'
            implied=''
            own='^(--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            valued='^(--location|--location-ip|--linger)$'
            options='-v --verbose -q --quiet --location --location-ip --linger -h --help'
            files=''
            directories=''
            variables=''
            hosts='^(--location-ip)$'
            operand=''
            passes_on=''
            ;;
        _tf_node_serve)
            verbs=''
            implied=''
            own='^(--join|--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            valued='^(--join|--location|--location-ip|--linger)$'
            options='--join -v --verbose -q --quiet --location --location-ip --linger -h --help'
            files=''
            directories=''
            variables=''
            hosts='^(--location-ip)$'
            operand=''
            passes_on=''
            ;;
        _tf_service)
            verbs='install rm ls'
            implied=''
            own='^(--system|--host|--identity|--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            valued='^(--host|--identity|--location|--location-ip|--linger)$'
            options='--system --host --identity -v --verbose -q --quiet --location --location-ip --linger -h --help'
            files='^(--identity)$'
            directories=''
            variables=''
            hosts='^(--host|--location-ip)$'
            operand=''
            passes_on=''
            ;;
        _tf_service_install)
            verbs='image location node'
            implied='_tf_service_install_image'
            own='^(--print|--replace|--with-account|--system|--host|--identity|--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            valued='^(--host|--identity|--location|--location-ip|--linger|--name|--offset|--publish|--domain|--path|--env|--file|--entrypoint|--user|--workdir|--memory|--cpus|--pids|--json|-[vqhzit]*[pefuw])$'
            options='--print --replace --with-account --system --host --identity -v --verbose -q --quiet --location --location-ip --linger -h --help --name --offset -p --publish --public --browser --domain --path -e --env -f --file -z --sleep --entrypoint -u --user -w --workdir --memory --cpus --pids -i --interactive -t --tty --timing --json'
            files='^(--identity|--file|--json|-[vqhzit]*[f])$'
            directories=''
            variables='^(--env|-[vqhzit]*[e])$'
            hosts='^(--host|--location-ip|--domain)$'
            operand='image'
            passes_on=''
            ;;
        _tf_service_install_image)
            verbs=''
            implied=''
            own='^(--name|--offset|--publish|--public|--browser|--domain|--path|--env|--file|--sleep|--entrypoint|--user|--workdir|--memory|--cpus|--pids|--interactive|--tty|--timing|--json|--print|--replace|--with-account|--system|--host|--identity|--verbose|--quiet|--location|--location-ip|--linger|--help|-[zitvqh]*[pefzuwitvqh])$'
            valued='^(--name|--offset|--publish|--domain|--path|--env|--file|--entrypoint|--user|--workdir|--memory|--cpus|--pids|--json|--host|--identity|--location|--location-ip|--linger|-[zitvqh]*[pefuw])$'
            options='--name --offset -p --publish --public --browser --domain --path -e --env -f --file -z --sleep --entrypoint -u --user -w --workdir --memory --cpus --pids -i --interactive -t --tty --timing --json --print --replace --with-account --system --host --identity -v --verbose -q --quiet --location --location-ip --linger -h --help'
            files='^(--file|--json|--identity|-[zitvqh]*[f])$'
            directories=''
            variables='^(--env|-[zitvqh]*[e])$'
            hosts='^(--domain|--host|--location-ip)$'
            operand='image'
            passes_on='yes'
            ;;
        _tf_service_install_location)
            verbs=''
            implied=''
            own='^(--listen|--name|--no-node|--max-linger|--max-cache|--print|--replace|--with-account|--system|--host|--identity|--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            valued='^(--listen|--name|--max-linger|--max-cache|--host|--identity|--location|--location-ip|--linger)$'
            options='--listen --name --no-node --max-linger --max-cache --print --replace --with-account --system --host --identity -v --verbose -q --quiet --location --location-ip --linger -h --help'
            files='^(--identity)$'
            directories=''
            variables=''
            hosts='^(--host|--location-ip)$'
            operand=''
            passes_on=''
            ;;
        _tf_service_install_node)
            verbs=''
            implied=''
            own='^(--join|--print|--replace|--with-account|--system|--host|--identity|--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            valued='^(--join|--host|--identity|--location|--location-ip|--linger)$'
            options='--join --print --replace --with-account --system --host --identity -v --verbose -q --quiet --location --location-ip --linger -h --help'
            files='^(--identity)$'
            directories=''
            variables=''
            hosts='^(--host|--location-ip)$'
            operand=''
            passes_on=''
            ;;
        _tf_service_rm)
            verbs=''
            implied=''
            own='^(--system|--host|--identity|--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            valued='^(--host|--identity|--location|--location-ip|--linger)$'
            options='--system --host --identity -v --verbose -q --quiet --location --location-ip --linger -h --help'
            files='^(--identity)$'
            directories=''
            variables=''
            hosts='^(--host|--location-ip)$'
            operand=''
            passes_on=''
            ;;
        _tf_service_ls)
            verbs=''
            implied=''
            own='^(--json|--system|--host|--identity|--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            valued='^(--host|--identity|--location|--location-ip|--linger)$'
            options='--json --system --host --identity -v --verbose -q --quiet --location --location-ip --linger -h --help'
            files='^(--identity)$'
            directories=''
            variables=''
            hosts='^(--host|--location-ip)$'
            operand=''
            passes_on=''
            ;;
    esac
}

# Prints the names of images that begin with the argument.
_tf_images() {
    local program=tf
    case ${COMP_WORDS[0]} in
        */*) program=${COMP_WORDS[0]%/*}/tf ;;
    esac
    "$program" __complete images -- "$1" 2>/dev/null
}

_tf_add() {
    local line
    while IFS= read -r line; do
        COMPREPLY+=("$line")
    done
}

_tf_values() {
    case $1 in
        image)
            _tf_add < <(_tf_images "$2")
            case $2 in
                .* | */* | '~'*) _tf_values file "$2" ;;
            esac
            ;;
        file)
            compopt -o filenames 2>/dev/null
            _tf_add < <(compgen -f -- "$2")
            ;;
        directory)
            compopt -o filenames 2>/dev/null
            _tf_add < <(compgen -d -- "$2")
            ;;
        variable) _tf_add < <(compgen -v -- "$2") ;;
        host) _tf_add < <(compgen -A hostname -- "$2") ;;
    esac
}

_tf() {
    COMPREPLY=()
    local scope verbs implied own valued options files directories variables hosts operand passes_on

    # Readline takes words apart at `:` and `=`; here they are one again.
    local -a words=()
    local index word previous=
    for ((index = 0; index <= COMP_CWORD; index++)); do
        word=${COMP_WORDS[index]}
        if [[ ${#words[@]} -gt 1 && ( $word == [:=]* || $previous == *[:=] ) && $previous != '' ]]; then
            words[${#words[@]}-1]+=$word
        else
            words+=("$word")
        fi
        previous=$word
    done
    local last=$((${#words[@]} - 1))
    local current=${words[last]}

    _tf_enter _tf
    local operands=0 ended= option=
    for ((index = 1; index < last; index++)); do
        word=${words[index]}
        if [[ $ended ]]; then
            operands=$((operands + 1))
        elif [[ $word == -- ]]; then
            [[ $implied ]] && _tf_enter "$implied"
            ended=yes
        elif [[ $word == -?* ]]; then
            [[ $implied && ! ${word%%=*} =~ $own ]] && _tf_enter "$implied"
            if [[ $valued && $word =~ $valued ]]; then
                index=$((index + 1))
                [[ $index -eq $last ]] && option=$word
            fi
        elif [[ " $verbs " == *" $word "* ]]; then
            _tf_enter "${scope}_${word//-/_}"
        else
            [[ $implied ]] && _tf_enter "$implied"
            operands=$((operands + 1))
            [[ $passes_on ]] && ended=yes
        fi
    done

    if [[ ! $option && ! $ended && $current == --*=* ]]; then
        option=${current%%=*}
        current=${current#*=}
    fi
    if [[ $option ]]; then
        if [[ $files && $option =~ $files ]]; then
            [[ $current == *:* ]] || _tf_values file "$current"
        elif [[ $directories && $option =~ $directories ]]; then
            _tf_values directory "$current"
        elif [[ $variables && $option =~ $variables ]]; then
            [[ $current == *=* ]] || _tf_values variable "$current"
        elif [[ $hosts && $option =~ $hosts ]]; then
            _tf_values host "$current"
        fi
    elif [[ ! $ended && $current == -* ]]; then
        _tf_add < <(compgen -W "$options" -- "$current")
    elif [[ $operands -eq 0 || ! $passes_on ]]; then
        [[ ! $ended && $verbs ]] && _tf_add < <(compgen -W "$verbs" -- "$current")
        _tf_values "$operand" "$current"
    fi

    # What stands before the last `:` is in another word already, as far as readline is concerned.
    if [[ $current == *:* && $COMP_WORDBREAKS == *:* ]]; then
        local typed=${current%"${current##*:}"}
        for index in "${!COMPREPLY[@]}"; do
            COMPREPLY[index]=${COMPREPLY[index]#"$typed"}
        done
    fi
}

complete -F _tf tf
