module hoist.test/ryuk

go 1.19
