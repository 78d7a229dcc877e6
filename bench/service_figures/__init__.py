"""What ``bench/service.py`` measures, a file for each group of figures."""
