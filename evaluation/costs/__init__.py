"""What a compressed model costs: numbers counted, memory held, energy modelled and measured."""
