"""Search by sensitivities: what each choice does alone, put together into whole fronts."""
