"""What tests share: models, identities, quick runs, processes and servers."""
