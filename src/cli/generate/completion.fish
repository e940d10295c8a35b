# Completion of @PROGRAM@ for fish. Made by `tf generate`.

# Sets, in the caller, what is to be known of a scope: a command or verb, with the path that leads to it.
function @FUNCTION@_enter --no-scope-shadowing
    set scope $argv[1]
    switch $scope
@TABLE@
    end
end

# Whether the cursor is in the scope of argument 1, where something of the kind of argument 2 belongs.
function @FUNCTION@_in
    set -l scope
    set -l verbs
    set -l implied
    set -l own
    set -l valued
    set -l passes_on
    set -l operands 0
    set -l ended
    @FUNCTION@_enter @SCOPE@

    set -l words (commandline -opc)
    set -e words[1]
    while set -q words[1]
        set -l word $words[1]
        set -e words[1]
        if test -n "$ended"
            set operands (math $operands + 1)
        else if test "$word" = --
            test -n "$implied"; and @FUNCTION@_enter $implied
            set ended yes
        else if string match -qr -- '^-.' $word
            if test -n "$implied"; and not string match -qr -- $own (string replace -r -- '=.*' '' $word)
                @FUNCTION@_enter $implied
            end
            if test -n "$valued"; and string match -qr -- $valued $word
                set -e words[1]
            end
        else if contains -- $word $verbs
            @FUNCTION@_enter "$scope"_(string replace -a -- - _ $word)
        else
            test -n "$implied"; and @FUNCTION@_enter $implied
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
function @FUNCTION@_images
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

complete -c @PROGRAM@ -f
@LINES@
