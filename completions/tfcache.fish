# Completion of tfcache for fish. Made by `tf generate`.

# Sets, in the caller, what is to be known of a scope: a command or verb, with the path that leads to it.
function __tfcache_enter --no-scope-shadowing
    set scope $argv[1]
    switch $scope
        case _tfcache
            set verbs add ls rm
            set implied '_tfcache_add'
            set own '^(--verbose|--quiet|--location|--location-ip|--linger|--help|--version|-[vqhV]*[vqhV])$'
            set valued '^(--location|--location-ip|--linger)$'
            set passes_on ''
        case _tfcache_add
            set verbs
            set implied ''
            set own '^(--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            set valued '^(--location|--location-ip|--linger)$'
            set passes_on ''
        case _tfcache_ls
            set verbs
            set implied ''
            set own '^(--json|--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            set valued '^(--location|--location-ip|--linger)$'
            set passes_on ''
        case _tfcache_rm
            set verbs
            set implied ''
            set own '^(--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            set valued '^(--location|--location-ip|--linger)$'
            set passes_on ''
    end
end

# Whether the cursor is in the scope of argument 1, where something of the kind of argument 2 belongs.
function __tfcache_in
    set -l scope
    set -l verbs
    set -l implied
    set -l own
    set -l valued
    set -l passes_on
    set -l operands 0
    set -l ended
    __tfcache_enter _tfcache

    set -l words (commandline -opc)
    set -e words[1]
    while set -q words[1]
        set -l word $words[1]
        set -e words[1]
        if test -n "$ended"
            set operands (math $operands + 1)
        else if test "$word" = --
            test -n "$implied"; and __tfcache_enter $implied
            set ended yes
        else if string match -qr -- '^-.' $word
            if test -n "$implied"; and not string match -qr -- $own (string replace -r -- '=.*' '' $word)
                __tfcache_enter $implied
            end
            if test -n "$valued"; and string match -qr -- $valued $word
                set -e words[1]
            end
        else if contains -- $word $verbs
            __tfcache_enter "$scope"_(string replace -a -- - _ $word)
        else
            test -n "$implied"; and __tfcache_enter $implied
            set operands (math $operands + 1)
            test -n "$passes_on"; and set ended yes
        end
    end

    test "$scope" = "$argv[1]"; or return 1
    switch $argv[2]
        case option
            test -z "$ended"
        case verb
            test -z "$ended" -a $operands -eq 0
        case operand
            test $operands -eq 0 -o -z "$passes_on"
    end
end

# Names of images of the local Docker daemon, and paths.
function __tfcache_images
    set -l program tf
    set -l words (commandline -opc)
    if string match -q -- '*/*' $words[1]
        set program (string replace -r -- '/[^/]*$' /tf $words[1])
    end
    set -l current (commandline -ct)
    $program __complete images -- $current 2>/dev/null
    if string match -qr -- '^(\.|/|~|.*/)' $current
        __fish_complete_path $current
    end
end

complete -c tfcache -f
complete -c tfcache -n '__tfcache_in _tfcache verb' -a add -d 'Send an image and keep it; `add` may be left out'
complete -c tfcache -n '__tfcache_in _tfcache verb' -a ls -d 'List the images that the location keeps'
complete -c tfcache -n '__tfcache_in _tfcache verb' -a rm -d 'Remove kept images and free their space'
complete -c tfcache -n '__tfcache_in _tfcache option' -s v -l verbose -d 'Say what is being done; twice: in every detail'
complete -c tfcache -n '__tfcache_in _tfcache option' -s q -l quiet -d 'Say nothing but errors'
complete -c tfcache -n '__tfcache_in _tfcache option' -l location -x -d 'Use this location, in place of the default one'
complete -c tfcache -n '__tfcache_in _tfcache option' -l location-ip -x -a '(__fish_print_hostnames)' -d 'Reach the location at this address'
complete -c tfcache -n '__tfcache_in _tfcache option' -l linger -x -d 'How long the location keeps the session while the connection to it is lost, as in 90s, 30m or 0, with which the session ends at once; 2m if not given, and never longer than the location allows'
complete -c tfcache -n '__tfcache_in _tfcache option' -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tfcache -n '__tfcache_in _tfcache option' -s V -l version -d 'Print version'
complete -c tfcache -n '__tfcache_in _tfcache operand' -a '(__tfcache_images)'
complete -c tfcache -n '__tfcache_in _tfcache_add option' -s v -l verbose -d 'Say what is being done; twice: in every detail'
complete -c tfcache -n '__tfcache_in _tfcache_add option' -s q -l quiet -d 'Say nothing but errors'
complete -c tfcache -n '__tfcache_in _tfcache_add option' -l location -x -d 'Use this location, in place of the default one'
complete -c tfcache -n '__tfcache_in _tfcache_add option' -l location-ip -x -a '(__fish_print_hostnames)' -d 'Reach the location at this address'
complete -c tfcache -n '__tfcache_in _tfcache_add option' -l linger -x -d 'How long the location keeps the session while the connection to it is lost, as in 90s, 30m or 0, with which the session ends at once; 2m if not given, and never longer than the location allows'
complete -c tfcache -n '__tfcache_in _tfcache_add option' -s h -l help -d 'Print help'
complete -c tfcache -n '__tfcache_in _tfcache_add operand' -a '(__tfcache_images)'
complete -c tfcache -n '__tfcache_in _tfcache_ls option' -l json -d 'Print JSON in place of a table'
complete -c tfcache -n '__tfcache_in _tfcache_ls option' -s v -l verbose -d 'Say what is being done; twice: in every detail'
complete -c tfcache -n '__tfcache_in _tfcache_ls option' -s q -l quiet -d 'Say nothing but errors'
complete -c tfcache -n '__tfcache_in _tfcache_ls option' -l location -x -d 'Use this location, in place of the default one'
complete -c tfcache -n '__tfcache_in _tfcache_ls option' -l location-ip -x -a '(__fish_print_hostnames)' -d 'Reach the location at this address'
complete -c tfcache -n '__tfcache_in _tfcache_ls option' -l linger -x -d 'How long the location keeps the session while the connection to it is lost, as in 90s, 30m or 0, with which the session ends at once; 2m if not given, and never longer than the location allows'
complete -c tfcache -n '__tfcache_in _tfcache_ls option' -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tfcache -n '__tfcache_in _tfcache_rm option' -s v -l verbose -d 'Say what is being done; twice: in every detail'
complete -c tfcache -n '__tfcache_in _tfcache_rm option' -s q -l quiet -d 'Say nothing but errors'
complete -c tfcache -n '__tfcache_in _tfcache_rm option' -l location -x -d 'Use this location, in place of the default one'
complete -c tfcache -n '__tfcache_in _tfcache_rm option' -l location-ip -x -a '(__fish_print_hostnames)' -d 'Reach the location at this address'
complete -c tfcache -n '__tfcache_in _tfcache_rm option' -l linger -x -d 'How long the location keeps the session while the connection to it is lost, as in 90s, 30m or 0, with which the session ends at once; 2m if not given, and never longer than the location allows'
complete -c tfcache -n '__tfcache_in _tfcache_rm option' -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tfcache -n '__tfcache_in _tfcache_rm operand' -a '(__tfcache_images)'
