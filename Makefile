contracts:
	true
