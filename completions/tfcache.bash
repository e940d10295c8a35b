# Completion of tfcache for bash. Made by `tf generate`.

# Sets what is to be known of a scope: a command or verb, with the path that leads to it.
_tfcache_enter() {
    scope=$1
    case $scope in
        _tfcache)
            verbs='add ls rm'
            implied='_tfcache_add'
            own='^(--verbose|--quiet|--location|--location-ip|--linger|--help|--version|-[vqhV]*[vqhV])$'
            valued='^(--location|--location-ip|--linger)$'
            options='-v --verbose -q --quiet --location --location-ip --linger -h --help -V --version'
            files=''
            directories=''
            variables=''
            hosts='^(--location-ip)$'
            operand='image'
            passes_on=''
            ;;
        _tfcache_add)
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
        _tfcache_ls)
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
        _tfcache_rm)
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
    esac
}

# Prints the names of images that begin with the argument.
_tfcache_images() {
    local program=tf
    case ${COMP_WORDS[0]} in
        */*) program=${COMP_WORDS[0]%/*}/tf ;;
    esac
    "$program" __complete images -- "$1" 2>/dev/null
}

_tfcache_add() {
    local line
    while IFS= read -r line; do
        COMPREPLY+=("$line")
    done
}

_tfcache_values() {
    case $1 in
        image)
            _tfcache_add < <(_tfcache_images "$2")
            case $2 in
                .* | */* | '~'*) _tfcache_values file "$2" ;;
            esac
            ;;
        file)
            compopt -o filenames 2>/dev/null
            _tfcache_add < <(compgen -f -- "$2")
            ;;
        directory)
            compopt -o filenames 2>/dev/null
            _tfcache_add < <(compgen -d -- "$2")
            ;;
        variable) _tfcache_add < <(compgen -v -- "$2") ;;
        host) _tfcache_add < <(compgen -A hostname -- "$2") ;;
    esac
}

_tfcache() {
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

    _tfcache_enter _tfcache
    local operands=0 ended= option=
    for ((index = 1; index < last; index++)); do
        word=${words[index]}
        if [[ $ended ]]; then
            operands=$((operands + 1))
        elif [[ $word == -- ]]; then
            [[ $implied ]] && _tfcache_enter "$implied"
            ended=yes
        elif [[ $word == -?* ]]; then
            [[ $implied && ! ${word%%=*} =~ $own ]] && _tfcache_enter "$implied"
            if [[ $valued && $word =~ $valued ]]; then
                index=$((index + 1))
                [[ $index -eq $last ]] && option=$word
            fi
        elif [[ " $verbs " == *" $word "* ]]; then
            _tfcache_enter "${scope}_${word//-/_}"
        else
            [[ $implied ]] && _tfcache_enter "$implied"
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
            [[ $current == *:* ]] || _tfcache_values file "$current"
        elif [[ $directories && $option =~ $directories ]]; then
            _tfcache_values directory "$current"
        elif [[ $variables && $option =~ $variables ]]; then
            [[ $current == *=* ]] || _tfcache_values variable "$current"
        elif [[ $hosts && $option =~ $hosts ]]; then
            _tfcache_values host "$current"
        fi
    elif [[ ! $ended && $current == -* ]]; then
        _tfcache_add < <(compgen -W "$options" -- "$current")
    elif [[ $operands -eq 0 || ! $passes_on ]]; then
        [[ ! $ended && $verbs ]] && _tfcache_add < <(compgen -W "$verbs" -- "$current")
        _tfcache_values "$operand" "$current"
    fi

    # What stands before the last `:` is in another word already, as far as readline is concerned.
    if [[ $current == *:* && $COMP_WORDBREAKS == *:* ]]; then
        local typed=${current%"${current##*:}"}
        for index in "${!COMPREPLY[@]}"; do
            COMPREPLY[index]=${COMPREPLY[index]#"$typed"}
        done
    fi
}

complete -F _tfcache tfcache
