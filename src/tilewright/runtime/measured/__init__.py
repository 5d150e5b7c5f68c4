"""Never slower: measuring on this machine, remembering the results, and choosing between dense and sparse."""
