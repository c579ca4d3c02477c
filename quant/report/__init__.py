"""report.json, report.html and the model card.

schema       the shape of report.json
measured     benches and evaluations made elsewhere, read
clips        short clips to hear
provenance   where an artifact comes from
verdict      five questions, answered by rule
regressions  against the report of an older artifact
everywhere   the artifact on every board
page         report.html
remake       both files at a build, and again by `quant report`
card         README.md of an artifact
"""
