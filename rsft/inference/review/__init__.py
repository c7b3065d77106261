"""Write an HTML page on which an analyst looks through predictions and corrects them, without server or network."""
