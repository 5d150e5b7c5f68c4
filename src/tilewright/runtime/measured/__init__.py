"""Never slower: what is measured on this machine, how it is remembered, and the choice between dense and sparse."""
