# SPDX-License-Identifier: MIT OR Apache-2.0
# Does what the README says: runs its commands, then its programs, one after the other as a reader would, and compares
# what they print with what is shown.
#
#   readme.jl FOLDER     an empty folder to work in; JULIA names Julia

const PAGE = joinpath(dirname(@__DIR__), "README.md")
const ROOT = dirname(dirname(dirname(@__DIR__)))
const SEPARATOR = "-- next --"

blocks = [(language = m[1], text = m[2]) for m in eachmatch(r"^```(\w+)\n(.*?)^```$"ms, read(PAGE, String))]
commands = [b.text for b in blocks if b.language == "sh"]
programs = [(text = b.text, shown = i < length(blocks) && blocks[i+1].language == "text" ? blocks[i+1].text : "")
            for (i, b) in enumerate(blocks) if b.language == "julia"]
length(commands) + length(programs) + count(p -> p.shown != "", programs) == length(blocks) ||
    error("README.md has a block that is neither run nor compared")

folder = ARGS[1]
# A new user's Julia: no packages, and an empty registry in place of the one it would fetch.
mkpath(joinpath(folder, "depot", "registries", "Empty"))
write(joinpath(folder, "depot", "registries", "Empty", "Registry.toml"),
    "name = \"Empty\"\nuuid = \"6a6c1fd4-6f0e-4c4a-9f9d-3a3f3e1f6a01\"\nrepo = \"\"\n\n[packages]\n")
mkpath(joinpath(folder, "bin"))
julia = joinpath(folder, "bin", "julia")
write(julia, "#!/bin/sh\nexec \"$(ENV["JULIA"])\" --startup-file=no \"\$@\"\n")
chmod(julia, 0o755)
environment = copy(ENV)
delete!(environment, "JULIA_LOAD_PATH")
environment["JULIA_DEPOT_PATH"] = joinpath(folder, "depot") * ":"
environment["PATH"] = joinpath(folder, "bin") * ":" * ENV["PATH"]

for command in commands
    run(setenv(`sh -e -c $command`, environment; dir = ROOT))
end
script = joinpath(folder, "page.jl")
write(script, join((p.text for p in programs), "\nprintln(\"$SEPARATOR\")\n"))
printed = split(read(setenv(`$julia $script`, environment; dir = folder), String), "$SEPARATOR\n")
length(printed) == length(programs) || error("README.md: only $(length(printed)) of $(length(programs)) programs ran")
for (program, output) in zip(programs, printed)
    output == program.shown ||
        error("README.md: the program\n$(program.text)printed\n$(output)and not\n$(program.shown)")
end
println("passed: ", length(commands) + length(programs))
