"""stub"""

ABLATIONS = {}
