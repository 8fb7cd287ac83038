# Runs crmsh from where scripts/unpack put it, without its log file.
import sys

from crmsh import log

log.setup_logging(only_help=True)
from crmsh import main

sys.argv[0] = "crm"
sys.exit(main.run())
