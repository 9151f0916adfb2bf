module mnemo

go 1.19
