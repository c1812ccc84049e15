module mailgale.dev/lookup

go 1.24
