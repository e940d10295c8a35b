# Completion of @PROGRAM@ for bash. Made by `tf generate`.

# Sets what is to be known of a scope: a command or verb, with the path that leads to it.
@FUNCTION@_enter() {
    scope=$1
    case $scope in
@TABLE@
    esac
}

# Prints the names of images that begin with the argument.
@FUNCTION@_images() {
    local program=tf
    case ${COMP_WORDS[0]} in
        */*) program=${COMP_WORDS[0]%/*}/tf ;;
    esac
    "$program" __complete images -- "$1" 2>/dev/null
}

@FUNCTION@_add() {
    local line
    while IFS= read -r line; do
        COMPREPLY+=("$line")
    done
}

@FUNCTION@_values() {
    case $1 in
        image)
            @FUNCTION@_add < <(@FUNCTION@_images "$2")
            case $2 in
                .* | */* | '~'*) @FUNCTION@_values file "$2" ;;
            esac
            ;;
        file)
            compopt -o filenames 2>/dev/null
            @FUNCTION@_add < <(compgen -f -- "$2")
            ;;
        directory)
            compopt -o filenames 2>/dev/null
            @FUNCTION@_add < <(compgen -d -- "$2")
            ;;
        variable) @FUNCTION@_add < <(compgen -v -- "$2") ;;
        host) @FUNCTION@_add < <(compgen -A hostname -- "$2") ;;
    esac
}

@FUNCTION@() {
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

    @FUNCTION@_enter @FUNCTION@
    local operands=0 ended= option=
    for ((index = 1; index < last; index++)); do
        word=${words[index]}
        if [[ $ended ]]; then
            operands=$((operands + 1))
        elif [[ $word == -- ]]; then
            [[ $implied ]] && @FUNCTION@_enter "$implied"
            ended=yes
        elif [[ $word == -?* ]]; then
            [[ $implied && ! ${word%%=*} =~ $own ]] && @FUNCTION@_enter "$implied"
            if [[ $valued && $word =~ $valued ]]; then
                index=$((index + 1))
                [[ $index -eq $last ]] && option=$word
            fi
        elif [[ " $verbs " == *" $word "* ]]; then
            @FUNCTION@_enter "${scope}_${word//-/_}"
        else
            [[ $implied ]] && @FUNCTION@_enter "$implied"
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
            [[ $current == *:* ]] || @FUNCTION@_values file "$current"
        elif [[ $directories && $option =~ $directories ]]; then
            @FUNCTION@_values directory "$current"
        elif [[ $variables && $option =~ $variables ]]; then
            [[ $current == *=* ]] || @FUNCTION@_values variable "$current"
        elif [[ $hosts && $option =~ $hosts ]]; then
            @FUNCTION@_values host "$current"
        fi
    elif [[ ! $ended && $current == -* ]]; then
        @FUNCTION@_add < <(compgen -W "$options" -- "$current")
    elif [[ $operands -eq 0 || ! $passes_on ]]; then
        [[ ! $ended && $verbs ]] && @FUNCTION@_add < <(compgen -W "$verbs" -- "$current")
        @FUNCTION@_values "$operand" "$current"
    fi

    # What stands before the last `:` is in another word already, as far as readline is concerned.
    if [[ $current == *:* && $COMP_WORDBREAKS == *:* ]]; then
        local typed=${current%"${current##*:}"}
        for index in "${!COMPREPLY[@]}"; do
            COMPREPLY[index]=${COMPREPLY[index]#"$typed"}
        done
    fi
}

complete -F @FUNCTION@ @PROGRAM@
