package config

// FunctionNames returns the names of all functions.
func (c *Config) FunctionNames() []string { return c.functions.names() }
