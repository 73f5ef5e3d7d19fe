package lab

// Personalities returns all that there are, in the order of the constants.
func Personalities() []Personality {
	var all []Personality
	for p := MinIO; p <= Wasabi; p++ {
		all = append(all, p)
	}
	return all
}
