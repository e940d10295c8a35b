# Completion of tf for fish. Made by `tf generate`.

# Sets, in the caller, what is to be known of a scope: a command or verb, with the path that leads to it.
function __tf_enter --no-scope-shadowing
    set scope $argv[1]
    switch $scope
        case _tf
            set verbs run cache describe last-image
            set implied '_tf_run'
            set own '^(--verbose|--quiet|--location|--location-ip|--help|--version|-[vqhV]*[vqhV])$'
            set valued '^(--location|--location-ip|--offset|--publish|--domain|--path|--env|--file|--entrypoint|--user|--workdir|--memory|--cpus|--pids|--json|-[vqhVzit]*[pefuw])$'
            set passes_on ''
        case _tf_run
            set verbs
            set implied ''
            set own '^(--offset|--publish|--public|--browser|--domain|--path|--env|--file|--sleep|--entrypoint|--user|--workdir|--memory|--cpus|--pids|--interactive|--tty|--timing|--json|--verbose|--quiet|--location|--location-ip|--help|-[zitvqh]*[pefzuwitvqh])$'
            set valued '^(--offset|--publish|--domain|--path|--env|--file|--entrypoint|--user|--workdir|--memory|--cpus|--pids|--json|--location|--location-ip|-[zitvqh]*[pefuw])$'
            set passes_on 'yes'
        case _tf_cache
            set verbs add ls rm
            set implied '_tf_cache_add'
            set own '^(--verbose|--quiet|--location|--location-ip|--help|-[vqh]*[vqh])$'
            set valued '^(--location|--location-ip)$'
            set passes_on ''
        case _tf_cache_add
            set verbs
            set implied ''
            set own '^(--verbose|--quiet|--location|--location-ip|--help|-[vqh]*[vqh])$'
            set valued '^(--location|--location-ip)$'
            set passes_on ''
        case _tf_cache_ls
            set verbs
            set implied ''
            set own '^(--json|--verbose|--quiet|--location|--location-ip|--help|-[vqh]*[vqh])$'
            set valued '^(--location|--location-ip)$'
            set passes_on ''
        case _tf_cache_rm
            set verbs
            set implied ''
            set own '^(--verbose|--quiet|--location|--location-ip|--help|-[vqh]*[vqh])$'
            set valued '^(--location|--location-ip)$'
            set passes_on ''
        case _tf_describe
            set verbs
            set implied ''
            set own '^(--verbose|--quiet|--location|--location-ip|--help|-[vqh]*[vqh])$'
            set valued '^(--location|--location-ip)$'
            set passes_on ''
        case _tf_last_image
            set verbs
            set implied ''
            set own '^(--verbose|--quiet|--location|--location-ip|--help|-[vqh]*[vqh])$'
            set valued '^(--location|--location-ip)$'
            set passes_on ''
    end
end

# Whether the cursor is in the scope of argument 1, where something of the kind of argument 2 belongs.
function __tf_in
    set -l scope
    set -l verbs
    set -l implied
    set -l own
    set -l valued
    set -l passes_on
    set -l operands 0
    set -l ended
    __tf_enter _tf

    set -l words (commandline -opc)
    set -e words[1]
    while set -q words[1]
        set -l word $words[1]
        set -e words[1]
        if test -n "$ended"
            set operands (math $operands + 1)
        else if test "$word" = --
            test -n "$implied"; and __tf_enter $implied
            set ended yes
        else if string match -qr -- '^-.' $word
            if test -n "$implied"; and not string match -qr -- $own (string replace -r -- '=.*' '' $word)
                __tf_enter $implied
            end
            if test -n "$valued"; and string match -qr -- $valued $word
                set -e words[1]
            end
        else if contains -- $word $verbs
            __tf_enter "$scope"_(string replace -a -- - _ $word)
        else
            test -n "$implied"; and __tf_enter $implied
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
function __tf_images
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

complete -c tf -f
complete -c tf -n '__tf_in _tf verb' -a run -d 'Run an image, with its ports on localhost'
complete -c tf -n '__tf_in _tf verb' -a cache -d 'Make images available to the location, so that a later run sends nothing'
complete -c tf -n '__tf_in _tf verb' -a describe -d 'Print an image\'s description as JSON'
complete -c tf -n '__tf_in _tf verb' -a last-image -d 'Print the id of the most recent image of the local Docker daemon'
complete -c tf -n '__tf_in _tf option' -s v -l verbose -d 'Say what is being done; twice: in every detail'
complete -c tf -n '__tf_in _tf option' -s q -l quiet -d 'Say nothing but errors'
complete -c tf -n '__tf_in _tf option' -l location -x -d 'Use this location, in place of the default one'
complete -c tf -n '__tf_in _tf option' -l location-ip -x -a '(__fish_print_hostnames)' -d 'Reach the location at this address'
complete -c tf -n '__tf_in _tf option' -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tf -n '__tf_in _tf option' -s V -l version -d 'Print version'
complete -c tf -n '__tf_in _tf option' -l offset -x -d 'Add N to the local port of each exposed port: with 8000, port 80 appears on 8080'
complete -c tf -n '__tf_in _tf option' -s p -l publish -x -d 'Bind LOCAL and connect it to port REMOTE of the container'
complete -c tf -n '__tf_in _tf option' -l public -d 'Bind all addresses of this machine, not only 127.0.0.1'
complete -c tf -n '__tf_in _tf option' -l browser -d 'Open the browser once the container has answered an HTTP request with 200'
complete -c tf -n '__tf_in _tf option' -l domain -x -a '(__fish_print_hostnames)' -d 'Host for the browser; has to be a name of this machine'
complete -c tf -n '__tf_in _tf option' -l path -x -d 'Path for the browser'
complete -c tf -n '__tf_in _tf option' -s e -l env -x -a '(set -nx)' -d 'Set a variable in the container; without a value: to the value that it has here'
complete -c tf -n '__tf_in _tf option' -s f -l file -r -F -d 'Put a file into the container before it starts'
complete -c tf -n '__tf_in _tf option' -s z -l sleep -d 'Start the container, but no program in it'
complete -c tf -n '__tf_in _tf option' -l entrypoint -x -d 'Program to run, in place of the image\'s entrypoint; empty: none'
complete -c tf -n '__tf_in _tf option' -s u -l user -x -d 'User to run the program as, by name or number'
complete -c tf -n '__tf_in _tf option' -s w -l workdir -x -d 'Directory to run the program in'
complete -c tf -n '__tf_in _tf option' -l memory -x -d 'Memory the container may use, as in 512m or 1g'
complete -c tf -n '__tf_in _tf option' -l cpus -x -d 'Processors the container may use, as in 1.5'
complete -c tf -n '__tf_in _tf option' -l pids -x -d 'Processes and threads the container may have'
complete -c tf -n '__tf_in _tf option' -s i -l interactive -d 'Pass standard input to the program'
complete -c tf -n '__tf_in _tf option' -s t -l tty -d 'Give the program a terminal'
complete -c tf -n '__tf_in _tf option' -l timing -d 'Say where the time went, once the container is ready'
complete -c tf -n '__tf_in _tf option' -l json -r -F -d 'Write container, image, node, ip, tunnels and pid to FILE for as long as the container runs'
complete -c tf -n '__tf_in _tf operand' -a '(__tf_images)'
complete -c tf -n '__tf_in _tf_run option' -l offset -x -d 'Add N to the local port of each exposed port: with 8000, port 80 appears on 8080'
complete -c tf -n '__tf_in _tf_run option' -s p -l publish -x -d 'Bind LOCAL and connect it to port REMOTE of the container'
complete -c tf -n '__tf_in _tf_run option' -l public -d 'Bind all addresses of this machine, not only 127.0.0.1'
complete -c tf -n '__tf_in _tf_run option' -l browser -d 'Open the browser once the container has answered an HTTP request with 200'
complete -c tf -n '__tf_in _tf_run option' -l domain -x -a '(__fish_print_hostnames)' -d 'Host for the browser; has to be a name of this machine'
complete -c tf -n '__tf_in _tf_run option' -l path -x -d 'Path for the browser'
complete -c tf -n '__tf_in _tf_run option' -s e -l env -x -a '(set -nx)' -d 'Set a variable in the container; without a value: to the value that it has here'
complete -c tf -n '__tf_in _tf_run option' -s f -l file -r -F -d 'Put a file into the container before it starts'
complete -c tf -n '__tf_in _tf_run option' -s z -l sleep -d 'Start the container, but no program in it'
complete -c tf -n '__tf_in _tf_run option' -l entrypoint -x -d 'Program to run, in place of the image\'s entrypoint; empty: none'
complete -c tf -n '__tf_in _tf_run option' -s u -l user -x -d 'User to run the program as, by name or number'
complete -c tf -n '__tf_in _tf_run option' -s w -l workdir -x -d 'Directory to run the program in'
complete -c tf -n '__tf_in _tf_run option' -l memory -x -d 'Memory the container may use, as in 512m or 1g'
complete -c tf -n '__tf_in _tf_run option' -l cpus -x -d 'Processors the container may use, as in 1.5'
complete -c tf -n '__tf_in _tf_run option' -l pids -x -d 'Processes and threads the container may have'
complete -c tf -n '__tf_in _tf_run option' -s i -l interactive -d 'Pass standard input to the program'
complete -c tf -n '__tf_in _tf_run option' -s t -l tty -d 'Give the program a terminal'
complete -c tf -n '__tf_in _tf_run option' -l timing -d 'Say where the time went, once the container is ready'
complete -c tf -n '__tf_in _tf_run option' -l json -r -F -d 'Write container, image, node, ip, tunnels and pid to FILE for as long as the container runs'
complete -c tf -n '__tf_in _tf_run option' -s v -l verbose -d 'Say what is being done; twice: in every detail'
complete -c tf -n '__tf_in _tf_run option' -s q -l quiet -d 'Say nothing but errors'
complete -c tf -n '__tf_in _tf_run option' -l location -x -d 'Use this location, in place of the default one'
complete -c tf -n '__tf_in _tf_run option' -l location-ip -x -a '(__fish_print_hostnames)' -d 'Reach the location at this address'
complete -c tf -n '__tf_in _tf_run option' -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tf -n '__tf_in _tf_run operand' -a '(__tf_images)'
complete -c tf -n '__tf_in _tf_cache verb' -a add -d 'Send an image and keep it; `add` may be left out'
complete -c tf -n '__tf_in _tf_cache verb' -a ls -d 'List the images that the location keeps'
complete -c tf -n '__tf_in _tf_cache verb' -a rm -d 'Remove kept images and free their space'
complete -c tf -n '__tf_in _tf_cache option' -s v -l verbose -d 'Say what is being done; twice: in every detail'
complete -c tf -n '__tf_in _tf_cache option' -s q -l quiet -d 'Say nothing but errors'
complete -c tf -n '__tf_in _tf_cache option' -l location -x -d 'Use this location, in place of the default one'
complete -c tf -n '__tf_in _tf_cache option' -l location-ip -x -a '(__fish_print_hostnames)' -d 'Reach the location at this address'
complete -c tf -n '__tf_in _tf_cache option' -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tf -n '__tf_in _tf_cache operand' -a '(__tf_images)'
complete -c tf -n '__tf_in _tf_cache_add option' -s v -l verbose -d 'Say what is being done; twice: in every detail'
complete -c tf -n '__tf_in _tf_cache_add option' -s q -l quiet -d 'Say nothing but errors'
complete -c tf -n '__tf_in _tf_cache_add option' -l location -x -d 'Use this location, in place of the default one'
complete -c tf -n '__tf_in _tf_cache_add option' -l location-ip -x -a '(__fish_print_hostnames)' -d 'Reach the location at this address'
complete -c tf -n '__tf_in _tf_cache_add option' -s h -l help -d 'Print help'
complete -c tf -n '__tf_in _tf_cache_add operand' -a '(__tf_images)'
complete -c tf -n '__tf_in _tf_cache_ls option' -l json -d 'Print JSON in place of a table'
complete -c tf -n '__tf_in _tf_cache_ls option' -s v -l verbose -d 'Say what is being done; twice: in every detail'
complete -c tf -n '__tf_in _tf_cache_ls option' -s q -l quiet -d 'Say nothing but errors'
complete -c tf -n '__tf_in _tf_cache_ls option' -l location -x -d 'Use this location, in place of the default one'
complete -c tf -n '__tf_in _tf_cache_ls option' -l location-ip -x -a '(__fish_print_hostnames)' -d 'Reach the location at this address'
complete -c tf -n '__tf_in _tf_cache_ls option' -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tf -n '__tf_in _tf_cache_rm option' -s v -l verbose -d 'Say what is being done; twice: in every detail'
complete -c tf -n '__tf_in _tf_cache_rm option' -s q -l quiet -d 'Say nothing but errors'
complete -c tf -n '__tf_in _tf_cache_rm option' -l location -x -d 'Use this location, in place of the default one'
complete -c tf -n '__tf_in _tf_cache_rm option' -l location-ip -x -a '(__fish_print_hostnames)' -d 'Reach the location at this address'
complete -c tf -n '__tf_in _tf_cache_rm option' -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tf -n '__tf_in _tf_cache_rm operand' -a '(__tf_images)'
complete -c tf -n '__tf_in _tf_describe option' -s v -l verbose -d 'Say what is being done; twice: in every detail'
complete -c tf -n '__tf_in _tf_describe option' -s q -l quiet -d 'Say nothing but errors'
complete -c tf -n '__tf_in _tf_describe option' -l location -x -d 'Use this location, in place of the default one'
complete -c tf -n '__tf_in _tf_describe option' -l location-ip -x -a '(__fish_print_hostnames)' -d 'Reach the location at this address'
complete -c tf -n '__tf_in _tf_describe option' -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tf -n '__tf_in _tf_describe operand' -a '(__tf_images)'
complete -c tf -n '__tf_in _tf_last_image option' -s v -l verbose -d 'Say what is being done; twice: in every detail'
complete -c tf -n '__tf_in _tf_last_image option' -s q -l quiet -d 'Say nothing but errors'
complete -c tf -n '__tf_in _tf_last_image option' -l location -x -d 'Use this location, in place of the default one'
complete -c tf -n '__tf_in _tf_last_image option' -l location-ip -x -a '(__fish_print_hostnames)' -d 'Reach the location at this address'
complete -c tf -n '__tf_in _tf_last_image option' -s h -l help -d 'Print help (see more with \'--help\')'
