# SPDX-License-Identifier: Apache-2.0
# bash completion for crewctl: the candidates come from crewctl itself.

_crewctl() {
        local cur line word
        local -a words
        # Words as typed: bash breaks them at '=' and ':' of its own accord, crewctl does not.
        words=("${COMP_WORDS[@]:1:COMP_CWORD}")
        cur=${COMP_WORDS[COMP_CWORD]}
        COMPREPLY=()
        while IFS= read -r line; do
                case $line in
                :files)
                        compopt -o filenames 2>/dev/null
                        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
                        ;;
                :commands)
                        mapfile -t COMPREPLY < <(compgen -c -- "$cur")
                        ;;
                *)
                        word=${line%%$'\t'*}
                        COMPREPLY+=("$word")
                        ;;
                esac
        done < <("${COMP_WORDS[0]}" __complete "${words[@]}" 2>/dev/null)
}
complete -F _crewctl crewctl
