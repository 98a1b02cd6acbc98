def run(results, options): pass
