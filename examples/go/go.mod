module copies

go 1.19

require mnemo v0.0.0

replace mnemo => ../../bindings/go
