"""The artifact folder as files: written whole, sealed, listed, carried as one.

folder        the folder, whole or not at all
stable_bytes  JSON, arrays and archives without dates in them
typed_json    JSON read as the struct that it is
sbom          what built it: a CycloneDX bill of materials
signing       who vouches for it: ed25519 signatures
bundle        one file of it all, for a board
"""
